"""The bundled model: its recipe, its data stream, its weights and its card."""
