"""What `choregos up` keeps on one machine: its directory, disk, ports and processes."""
