"""What is hidden and what is predicted: an objective is a module that turns images into a loss."""
