"""Workers: plain messages of any queue, handled by a site's function or consumer class."""
