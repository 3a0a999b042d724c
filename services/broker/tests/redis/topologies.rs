//! Sentinel, TLS and ACL users: every hop once, on real ones.
