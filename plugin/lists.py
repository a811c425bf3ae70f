"""A list to choose a text from, which leaves room for the rest of a dialog."""

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout

_SHORTEST = 16
"""Characters of an entry that a dialog always has room for; more are shown where it has more."""


class List(QComboBox):
    """Entries with a text to show and one that counts; anything else may be typed."""

    def __init__(self):
        super().__init__()
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(_SHORTEST)
        self.currentIndexChanged.connect(lambda *_: self.lineEdit().home(False))  # the beginning says most

    def add_heading(self, text):
        """A line that cannot be chosen."""
        self.addItem(text)
        self.model().item(self.count() - 1).setFlags(Qt.ItemFlag.NoItemFlags)

    def value(self):
        index = self.currentIndex()
        shown = index >= 0 and self.currentText() == self.itemText(index)
        return self.itemData(index) if shown else self.currentText().strip()

    def set_value(self, value):
        index = self.findData(value or "")
        if index >= 0:
            self.setCurrentIndex(index)
        else:
            self.setEditText(value or "")


def with_button(choice, tooltip, pressed, note):
    """A column of a list with a button beside it, and a note below."""
    button = QToolButton()
    button.setText("\u2026")
    button.setToolTip(tooltip)
    button.clicked.connect(pressed)
    row = QHBoxLayout()
    row.addWidget(choice, 1)
    row.addWidget(button)
    column = QVBoxLayout()
    column.setContentsMargins(0, 0, 0, 0)
    column.addLayout(row)
    column.addWidget(note)
    return column


def note():
    """A text that is broken into lines wherever the dialog needs it, and no HTML: it may come from anybody."""
    found = QLabel()
    found.setWordWrap(True)
    found.setTextFormat(Qt.TextFormat.PlainText)
    found.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return found
