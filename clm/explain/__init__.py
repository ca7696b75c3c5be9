"""`python -m clm explain`: what a loss means, whether it is normal, where it ends and what would help."""
