"""The explorer: a run or a store in a browser. Data functions are pure; the page and its tabs are layout and callbacks."""
