"""What Prism adds to the webui's command line."""


def preload(parser):
    parser.add_argument(
        "--prism-data-dir",
        type=str,
        default=None,
        help="folder for Prism's own folder prism, in place of the webui's data folder: presets and cards lie in it",
    )
