//! Carillon gateway.
