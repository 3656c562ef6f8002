"""Statistics of scores over pre-training: numpy and scipy only, no stores, no figures."""
