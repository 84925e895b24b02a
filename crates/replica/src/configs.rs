//! Configurations in the replica: the one in force is brought, and those before it go. They open with keys that the owner
//! has taken away; and what a thief knows must not open the copies either.

use haven_format::layout;
use haven_store::{Advice, ObjectMeta};

use crate::{
    Replicator, Side, Summary,
    carry::Outcome,
    error::{At, Result},
    look::Look,
    names::object,
};

fn number(name: &str) -> Option<u64> {
    layout::parse_config(name).map(|(seq, _)| seq)
}

impl Replicator {
    /// Of the source's configurations those that the replica is to have: the newest that opens, and what is newer still
    /// (which is damaged, and told). None that is older than what the replica has already.
    pub(crate) fn configs_wanted<'l>(&self, look: &'l Look) -> impl Iterator<Item = &'l ObjectMeta> {
        let lowest = self.in_force.max(self.own_config);
        look.configs.iter().filter(move |found| number(found.name.as_str()) >= lowest)
    }

    /// Looks whether the replica has a configuration that is newer than the source's.
    pub(crate) async fn look_at_own_configs(&mut self, summary: &mut Summary) -> Result<()> {
        let newer: Vec<String> = self.carrier.inventory(|there| {
            let names = there.below(layout::CONFIGS).filter(|name| number(name) > self.in_force.max(self.own_config));
            names.map(str::to_owned).collect()
        });
        for name in newer.iter().rev() {
            // Anybody who may write can make names.
            if let Outcome::Done(_) = self.carrier.inspect(name, None).await? {
                self.own_config = number(name);
                break;
            }
        }
        if self.own_config > self.in_force {
            summary.warnings.push(
                "the replica has a newer configuration than the source, which lets in whom that one locks out: it is not \
                 brought. Has somebody played an old one back?"
                    .into(),
            );
        }
        Ok(())
    }

    /// Deletes configurations before the one in force, once every copy of that is here and one was read and is the
    /// library's own.
    pub(crate) async fn retire_configs(&mut self, look: &Look, summary: &mut Summary) -> Result<()> {
        let Some(in_force) = self.in_force else { return Ok(()) };
        let older: Vec<String> = self.carrier.inventory(|there| {
            let names = there.below(layout::CONFIGS).filter(|name| number(name).is_some_and(|seq| seq < in_force));
            names.map(str::to_owned).collect()
        });
        if older.is_empty() {
            return Ok(());
        }
        if self.options.keep_configs {
            summary.warnings.push(
                "the library's keys were changed, and the secret in use opens only the replica, by an older configuration: that \
                 one is kept"
                    .into(),
            );
            return Ok(());
        }
        let newest: Vec<&str> = look.configs.iter().map(|found| found.name.as_str()).collect();
        // One that is damaged in the source can't be had.
        let damaged = |name: &str| summary.damaged.iter().any(|damage| damage.object == name);
        let newest: Vec<&str> =
            newest.into_iter().filter(|name| number(name) == Some(in_force) && !damaged(name)).collect();
        if !self.carrier.inventory(|there| newest.iter().all(|name| there.has(name))) {
            return Ok(());
        }
        let mut read = false;
        for name in newest {
            read = read || matches!(self.carrier.inspect(name, None).await?, Outcome::Done(_));
        }
        if !read {
            return Ok(());
        }
        for name in older {
            match self.replica.delete(&object(&name)).await {
                Ok(()) => self.carrier.inventory(|there| there.remove(&name)),
                Err(error) if error.advice() == Advice::Setting => {
                    summary.warnings.push(format!(
                        "{name} still lets into this replica whom the library locks out, and can't be deleted ({error}): delete it \
                         with other credentials"
                    ));
                    return Ok(());
                }
                Err(error) => return Err(error).at(Side::Replica, format!("{name} can't be deleted")),
            }
        }
        Ok(())
    }
}
