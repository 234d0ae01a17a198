"""The photographs of the committed results: `python benchmarks/flowers.py ~/flowers224`

TensorFlow's *flower photos*: 3,670 pictures of five flowers, taken by Flickr users and published under CC BY 2.0, 220 MB to
download. They are scaled to 224 pixels on the shorter side, where that is more, and saved as JPEGs of quality 70 in
Imagenette's layout, with the validation pictures that `flowers_valid.txt` lists. The results were measured on pictures that
were made like this with another version of the scaler, so single pixels may differ.
"""
import sys, tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from fastcore.net import urlsave
from fastcore.script import call_parse
from PIL import Image, ImageOps

def scaled(picture, size=224):
    "`picture` with its shorter side at most `size` pixels"
    return ImageOps.cover(picture, (size,size), Image.Resampling.LANCZOS) if min(picture.size)>size else picture

@call_parse
def main(
    out:str, # Folder to make, with `train` and `val` in it
    url:str='https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz', # Of the archive
):
    "Download the flower photos, scale them down and split them as in the committed results"
    out,valid = Path(out).expanduser(),{*Path(__file__).with_name('flowers_valid.txt').read_text().split()}
    if out.exists(): sys.exit(f'flowers: {out}: expected a folder that is not there yet')
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as tmp:
        try: archive = urlsave(url, Path(tmp)/'flowers.tgz')
        except OSError as e: sys.exit(f'flowers: {url}: it could not be downloaded ({type(e).__name__}: {e})')
        n,half = dict(train=0, val=0),Path(tmp)/'pictures'
        with tarfile.open(archive) as tar:
            for o in tar:
                if not o.isfile() or not o.name.endswith('.jpg'): continue
                name = '/'.join(Path(o.name).parts[-2:])
                part = 'val' if name in valid else 'train'
                (half/part/name).parent.mkdir(parents=True, exist_ok=True)
                scaled(Image.open(tar.extractfile(o)).convert('RGB')).save(half/part/name, quality=70)
                n[part] += 1
        half.rename(out)
    print(f'{out}: {n["train"]} pictures to train on, {n["val"]} to validate on')
