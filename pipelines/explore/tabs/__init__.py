"""The tabs of the explorer, a module each: what it shows, and what it does about what the browser asks."""
