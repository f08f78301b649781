//! watershed-stream
