//! watershed-simulator
