"""Many runs: sweeps over settings, and studies that search them."""
