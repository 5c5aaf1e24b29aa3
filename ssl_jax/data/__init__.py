"""From a name to the batches of a step: read, split, placed and fed.

wanted      what a run asks of its data
dataset     a Dataset: images, labels and names in memory; by hand: `of_arrays`
sources     where one comes from by name: a file for each kind
survey      the same with every file in it, for whoever looks at data
cache       decoded images, kept from one start to the next
progress    how far a long reading is
splits      which images are labeled, unlabeled or held out
answers     labels that a user gives in a CSV file
image_names which image a line of it means
given_images images that a user hands over, brought to the form of a run's own
graph_nodes data as a graph to learn from
streams     images that stay in their files, decoded ahead
placement   the pool on the devices, on the host, or in its files
loading     all of it once a run: `load`
found       what was there, told in a line and kept in result.json
feeds       which rows a step sees, and how they travel
convert     a tool: tfds' older files to those that can be read at random
"""
