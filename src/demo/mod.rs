#[derive(Debug, clap::Args)]
pub struct DemoOptions {}
pub fn run(_: DemoOptions) -> Result<(), std::io::Error> {
    Ok(())
}
