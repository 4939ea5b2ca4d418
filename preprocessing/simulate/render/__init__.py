"""The drawing of simulated faces: head, skin, hair, and the picture of them."""
