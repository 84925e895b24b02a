//! Named objects on any store, and the network. Knows nobody else in the house.

pub mod port;

pub use port::{Advice, DynStore, InvalidName, ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError};
