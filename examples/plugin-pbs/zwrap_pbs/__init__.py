"""PBS and Torque for zwrap."""
