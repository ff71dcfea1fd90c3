"""The world that is shown: taxonomies, pictures, splits and shuffles."""
