"""What tests of this package, and of programs built on it, are made with.

`virtual_time` runs async code without waiting, `simulation` runs many nodes that way over a memory network,
`pairs` gives connected pipes, and `contracts` states what every raw transport must do. None of it is
imported by the rest of the package.
"""
