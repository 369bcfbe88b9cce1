"""What `live` and `serve` share: the processes without rights that read a running process."""
