//! The binary as people meet it: whole commands, whole answers.
