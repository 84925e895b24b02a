mod database;
mod files;
