//! Directories that Kafka wrote.
