"""Help that shows the options of a command in groups."""

import click


def grouped(**groups: str) -> type[click.Command]:
    """A class of commands whose help shows options in groups; those of no group come last.

    Args:
        groups: title -> names of options without dashes, in the order in which they are shown.
    """

    class Grouped(click.Command):
        def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
            records = {_name(each): each.get_help_record(context) for each in self.get_params(context)}
            records = {name: record for name, record in records.items() if record and record[1]}
            for title, names in groups.items():
                with formatter.section(f"{title} options"):
                    formatter.write_dl([records.pop(name) for name in names.split()])
            if records:
                with formatter.section("Other options"):
                    formatter.write_dl(list(records.values()))

    return Grouped


def _name(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len).removeprefix("--")
