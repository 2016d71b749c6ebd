//! Every kernel through the harness, one test each: `cargo test -p evenkeel-tests --test kernels rms_norm_fwd`.

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            evenkeel_tests::assert_sound(stringify!($name));
        })*
    };
}

evenkeel_shaders::kernels!(tests);
