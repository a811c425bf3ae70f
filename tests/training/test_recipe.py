"""A recipe is checked as a whole, and each error names the file, the key and the remedy."""

from pathlib import Path

import pytest
from geoi2i.core.errors import RecipeError
from geoi2i.training.recipe import as_json, load_recipe, make_recipe

RECIPES = Path(__file__).parents[2] / "resources" / "recipes"


def made(**content):
    return make_recipe({"name": "t", "method": "sp_i2i", **content}, {}, "here.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_load(path):
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("content, words", [
    ({"optimizer": {"lr": 1e-3}}, ["here.toml", "optimizer", "'optimiser'"]),
    ({"optimiser": {"learning": 1}}, ["here.toml", "optimiser.learning", "lr"]),
    ({"settings": {"lambda_spatia": 1}}, ["settings", "lambda_spatia", "lambda_spatial"]),
    ({"network": {"name": "resnet", "sizes": {"widht": 8}}}, ["network.sizes", "widht", "width"]),
    ({"optimiser": {"lr": "fast"}}, ["optimiser.lr", "fast"]),
    ({"data": {"window_px": 0}}, ["data.window_px", "0"]),
    ({"network": {"name": "resnet", "sizes": {"width": 100000}}}, ["width", "100000"]),
    ({"method": "sorcery"}, ["sorcery", "sp_i2i"]),
    ({"data": {"latitude_zones": [10, -10]}}, ["data", "increasing"]),
])
def test_an_error_names_the_key_and_what_would_be_right(content, words):
    with pytest.raises(RecipeError) as error:
        made(**content)
    for word in words:
        assert word in str(error.value)


def test_overrides_read_values_as_toml_does():
    recipe = make_recipe({"name": "t", "method": "sp_i2i"}, {"optimiser.lr": "1e-3", "data.batch": "7",
                                                           "package.title": "two words"}, "-")
    assert (recipe.optimiser.lr, recipe.data.batch, recipe.package.title) == (1e-3, 7, "two words")


def test_text_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "r.toml").write_text("name = [")
    with pytest.raises(RecipeError, match="TOML"):
        load_recipe(tmp_path / "r.toml")


def test_a_shipped_recipe_names_no_folder_of_this_machine():
    recipe = made(data={"source": {"paths": ["/some/where/a.tif"]}})
    assert as_json(recipe)["data"]["source"]["paths"] == ["a.tif"]
