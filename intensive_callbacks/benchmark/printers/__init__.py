"""One printer per format, each a function of the grid."""
