"Hand the version and the requirements of `settings.ini` to setuptools; `pyproject.toml` holds the rest."
from configparser import ConfigParser
from setuptools import setup

cfg = ConfigParser(delimiters=['='])
cfg.read('settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

setup(version=cfg['version'], install_requires=cfg['requirements'].split(),
      extras_require={k: cfg[f'{k}_requirements'].split() for k in ('lightning','dev')})
