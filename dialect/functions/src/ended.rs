//! Whether anyone still waits for what a statement computes. Nothing ends a function that has begun; one that takes long asks before it begins.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use watershed_message::Message;

/// Set once a statement has ended. It goes with the statement's settings, which functions are given.
#[derive(Debug, Clone, Default)]
pub struct Ended(Arc<AtomicBool>);

impl Ended {
    /// Nobody waits any more.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error if nobody waits any more for what these settings are for.
    pub(crate) fn check(options: &ConfigOptions) -> Result<()> {
        match options.extensions.get::<Self>() {
            Some(Self(ended)) if ended.load(Ordering::Relaxed) => {
                let message = Message::new("the query was ended").next("run it again if that was not meant");
                Err(DataFusionError::External(Box::new(message)))
            }
            _ => Ok(()),
        }
    }
}

impl ConfigExtension for Ended {
    const PREFIX: &'static str = "statement";
}

impl ExtensionOptions for Ended {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    /// The statement is the same one.
    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        plan_err!("there is no setting '{key}'")
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_hear_of_the_end_of_their_statement() {
        let (ended, mut options) = (Ended::default(), ConfigOptions::new());
        Ended::check(&options).unwrap();
        options.extensions.insert(ended.clone());
        let taken_along = options.clone();
        Ended::check(&taken_along).unwrap();
        ended.set();
        assert!(Ended::check(&taken_along).is_err());
    }
}
