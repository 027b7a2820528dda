"""The read model of every view: which jobs are meant, what is known of them, and who says so."""
