//! The executable: the freestanding symbols of [`loader::entry`] around the command line.

#![no_std]
#![no_main]

loader::entry!(loader::cli::main);
