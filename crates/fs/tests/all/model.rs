//! The whole interface against the model, with kills and reboots among the steps.

use haven_fs::{
    Fs, Options,
    model::{Driver, Step},
};
use proptest::prelude::*;

use crate::common::*;

/// After this many steps everything is compared.
const COMPARE: usize = 24;

fn run(steps: Vec<[u32; 6]>, options: Options) -> Result<(), String> {
    let t = start_with(options.clone());
    let reboot = || Fs::start(t.vault.clone(), keys(), t.clock.clone(), options.clone()).unwrap();
    let mut driver = Driver::new(t.fs.clone());
    futures::executor::block_on(async {
        for (n, words) in steps.iter().enumerate() {
            match words[0] % 200 {
                0 => driver.resume(reboot(), true).await?,
                1 => {
                    driver.store_all().await?;
                    driver.resume(reboot(), true).await?;
                }
                _ => driver.step(&Step(*words)).await?,
            }
            if n % COMPARE == 0 {
                driver.compare().await?;
            }
        }
        driver.compare().await?;
        driver.resume(reboot(), true).await
    })
    .map_err(|what: String| format!("{what}\n{}", driver.trace.join("\n")))
}

fn words() -> impl Strategy<Value = Vec<[u32; 6]>> {
    prop::collection::vec(any::<[u32; 6]>(), 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn every_call_does_what_the_model_does(steps in words()) {
        run(steps, Options::default()).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn with_hardly_any_memory_too(steps in words()) {
        let options = Options { dirty_limit: 100_000, write_out: 40_000, ..Options::default() };
        run(steps, options).map_err(TestCaseError::fail)?;
    }
}
