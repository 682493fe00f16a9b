"""The command `fpig`: one subcommand for each module that does something by itself."""

import importlib
import sys

COMMANDS = {
    "search": ("fpig.search", "find videos of a folder by a sentence"),
    "index": ("fpig.index", "encode a folder of videos once"),
    "demo": ("fpig.demo", "a page that searches videos and shows why they were found"),
    "push": ("fpig.push", "publish a trained model on the Hub"),
    "export": ("fpig.export", "both encoders as ONNX files"),
    "convert": ("fpig.conversion", "a checkpoint of the authors' code as a model folder"),
}


def main() -> None:
    """Hands the rest of the command line to the subcommand's module, which alone is imported."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {command:<8} {text}" for command, (_, text) in COMMANDS.items()]
        sys.stdout.write("usage: fpig COMMAND ...\n\n" + "\n".join(lines) + "\n\n")
        sys.stdout.write("`fpig COMMAND --help` says what each takes.\n")
        return
    if name not in COMMANDS:
        raise SystemExit(f"error: `{name}` is no command of fpig; there are: {', '.join(COMMANDS)}")
    importlib.import_module(COMMANDS[name][0]).main(arguments)


if __name__ == "__main__":
    main()
