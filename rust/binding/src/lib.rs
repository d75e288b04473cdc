// SPDX-License-Identifier: Apache-2.0
//! The seam: `nerite._core`.
//!
//! Only translation happens here. Python configures through [`engine`], [`version`] and [`gateway`]; instances run
//! in [`call`], the one file that takes and gives back the GIL; [`arrays`] and [`outputs`] turn buffers
//! into NumPy arrays and back. `src/nerite/_core.pyi` is the contract.

mod arrays;
mod batch;
mod call;
mod engine;
mod errors;
mod gateway;
mod metrics;
mod outputs;
mod sender;
mod traces;
mod version;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every name that crosses.
#[pymodule(gil_used = true)]
mod _core {
    #[pymodule_export]
    use crate::batch::{Batch, Request};
    #[pymodule_export]
    use crate::engine::{ControlCall, Engine};
    #[pymodule_export]
    use crate::gateway::Gateway;
    #[pymodule_export]
    use crate::metrics::{Metric, MetricFamily};
    #[pymodule_export]
    use crate::sender::ResponseSender;
    #[pymodule_export]
    use crate::version::Version;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
