mod imports;
mod made;
mod memory;
