"""Make bars final, once no more trades can be on their way, and revise them."""
