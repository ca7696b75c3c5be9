"""`python -m clm report`: a run's folder as a page, a picture and a model card."""
