"""Static inference: image and text in, text out, through the two exported graphs."""
