"""Pictures of codes and images, drawn from arrays."""
