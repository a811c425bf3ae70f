"""The choice of a training method in a dialog: recipes in groups, or any recipe file."""

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QFileDialog, QWidget

from . import lists, recipes
from .text import tr


class MethodWidget(QWidget):
    """A list of recipes, a button for a file, and a line that says what the chosen one is."""

    changed = pyqtSignal()

    def __init__(self, optional):
        super().__init__()
        self.choice, self.about = lists.List(), lists.note()
        if optional:
            self.choice.addItem("", "")
        for heading, found in recipes.groups():
            if found:
                self.choice.add_heading(heading)
            for shown, value in found.items():
                self.choice.addItem(shown, value)
        self.setLayout(lists.with_button(self.choice, tr("Choose a recipe file"), self.pick, self.about))
        self.choice.editTextChanged.connect(self.chosen)

    def value(self):
        return self.choice.value()

    def set_value(self, value):
        self.choice.set_value(value)

    def pick(self):
        path, _ = QFileDialog.getOpenFileName(self, tr("Recipe"), recipes.user_recipes(), tr("Recipes (*.toml)"))
        if path:
            self.set_value(path)

    def chosen(self, *_):
        self.about.setText(recipes.about(self.value() or ""))
        self.changed.emit()
