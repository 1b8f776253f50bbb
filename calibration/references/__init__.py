"""Full runs of a model, and what is kept of them: all that the errors of segments and the weights of rules follow from."""
