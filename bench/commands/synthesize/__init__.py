"""``assay synthesize``: class pictures, inversions, dreams, textures and styles as files."""

from cyclopts import App

app = App(name="synthesize", help="Make pictures: visualize, invert, dream, texture, style.")
COMMANDS = {
    "visualize": "Draw what MODEL sees in WHAT: classes, LAYER, LAYER:CHANNEL or LAYER:CHANNEL:ROW:COLUMN.",
    "invert": "Draw what LAYERS of MODEL have kept of PICTURE.",
    "dream": "Let MODEL dream about PICTURE, of any size.",
    "texture": "Make more of the texture in each of SAMPLES.",
    "style": "Paint CONTENT in the style of STYLES.",
}
for _name, _help in COMMANDS.items():
    app.command(f"assay.bench.commands.synthesize.{_name}:{_name}", name=_name, help=_help)
