"""What a run costs before it is spent: time, memory, disk, downloads; `plan=true`."""
