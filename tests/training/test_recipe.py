"""A recipe is checked as a whole, and each error names the file, the key and the remedy."""

import os
from pathlib import Path

import numpy as np
import pytest
from geoi2i.core.errors import RecipeError
from geoi2i.training.recipe import as_json, describe_bands, load_recipe, make_recipe

RECIPES = Path(__file__).parents[2] / "resources" / "recipes"


def made(**content):
    return make_recipe({"name": "t", "method": "sp_i2i", **content}, {}, "here.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_load(path):
    assert load_recipe(path).name == path.stem.replace("_", "-")


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


def test_a_single_path_needs_no_brackets():
    recipe = made(data={"source": {"paths": "a", "exclude": "b"}, "target": {"paths": ["c", "d"]}, "validation": "e"})
    assert (recipe.data.source.paths, recipe.data.source.exclude) == (("a",), ("b",))
    assert recipe.data.target.paths == ("c", "d") and recipe.data.validation == "e"
    set_to = make_recipe({"name": "t", "method": "cut"}, {"data.target.paths": "f g.tif"}, "-")
    assert set_to.data.target.paths == ("f g.tif",)
    with pytest.raises(RecipeError, match=r"data\.source\.paths"):
        made(data={"source": {"paths": 3}})


def test_text_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "r.toml").write_text("name = [")
    with pytest.raises(RecipeError, match="TOML"):
        load_recipe(tmp_path / "r.toml")


HEAD = 'name = "t"\nmethod = "sp_i2i"\n'


@pytest.mark.parametrize("text, words", [
    ("a" + ".a" * 5000 + " = 1", "more than 64 parts"),
    ("[a" + " . a" * 5000 + "]", "more than 64 parts"),
    ('a."b"' * 3 + '."c"' * 5000 + " = 1", "more than 64 parts"),
    ("a = " + "[" * 5000, "nested too deeply"),
    ("[settings]\na = " + "[" * 80 + "]" * 80, "nested deeper"),
    ("seed = " + "9" * 5000, "TOML"),
    ("seed = " + "9" * 30, "more than 64 bits"),
    ("optimiser.lr = nan", "not a number"),
    ("settings.tau = inf", "not a number"),
    ('package.title = "\\u001b[31m"', "U+001B"),
    ("# " + "x" * 200_000, "longer than"),
    ("\0", "TOML"),
    ("optimiser.betas = [2, 3]", "optimiser.betas.0"),
    ("budget.steps = 10000000000", "budget.steps"),
    ('bands.dtype = "float64"', "bands.dtype"),
    ("package.title = " + '"' + "x" * 5000 + '"', "package.title"),
    ("data.latitude_zones = [-100, 100]", "data.latitude_zones.0"),
])
def test_a_recipe_from_anybody_has_bounds(tmp_path, text, words):
    (tmp_path / "r.toml").write_text(HEAD + text + "\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(tmp_path / "r.toml")
    assert words in str(error.value) and len(str(error.value)) < 600 and "\n" not in str(error.value)


def test_prose_and_lists_of_files_are_no_long_keys(tmp_path):
    many = ", ".join(f'"../data/a.{k}.tif"' for k in range(300))
    prose = "One. Two, e.g. three. " * 100
    text = f'{HEAD}data.source.paths = [{many}]\n[package]\ntraining_data = """\n{prose}"""\n'
    (tmp_path / "r.toml").write_text(text)
    assert len(load_recipe(tmp_path / "r.toml").data.source.paths) == 300


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_recipe_that_is_no_plain_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "r.toml")
    with pytest.raises(RecipeError, match="not a plain file"):
        load_recipe(tmp_path / "r.toml")


def test_a_band_without_a_valid_pixel_is_named_before_training(make_raster):
    pixels = np.full((2, 20, 20), 5, "int16")
    pixels[1] = -1
    source = make_raster(pixels, nodata=-1)
    recipe = made(data={"source": {"paths": [source]}, "target": {"paths": [source]}})
    with pytest.raises(RecipeError, match=r"Band 2 of .*in\.tif cannot be trained on"):
        describe_bands(recipe)


def test_a_shipped_recipe_names_no_folder_of_this_machine():
    recipe = made(data={"source": {"paths": ["/some/where/a.tif"]}})
    assert as_json(recipe)["data"]["source"]["paths"] == ["a.tif"]
