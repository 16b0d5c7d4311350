"""What a platform engineer lets studies do on the cluster: docs/policy.md."""
