"""Grid Engine: jobs are submitted over DRMAA; its command line answers all other questions."""
