mod delivery;
mod fake;
mod mail;
mod services;
