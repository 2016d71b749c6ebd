//! The harness is fed broken kernels: each must be caught, and by the stage that is there for it.
