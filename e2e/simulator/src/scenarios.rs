//! Directed schedules for what random ones meet too seldom.
