"""Full runs that users make for their pictures, what is kept of them, and the error graphs that follow."""
