//! Carillon dispatcher.
