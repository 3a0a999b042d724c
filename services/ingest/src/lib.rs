//! Carillon ingest.
